"""Train the nets of the zoo on Fashion-MNIST: ``python -m zoo.train NAME [--epochs N] [--threads N]``.

Writes ``weights/NAME.safetensors`` and ``weights/NAME.json`` (settings, log per epoch, test accuracy and loss, SHA-256
of the weights). The last 5,000 training images are held out as the development split and are never trained on; the
test set is read once, after the last epoch.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import data
from zoo.nets import NETS

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Recipe:
    """Training settings of one net; the learning rate follows a one-cycle schedule over all iterations."""

    optimiser: str = "sgd"
    rate: float = 0.1
    decay: float = 5e-4
    epochs: int = 8
    batch: int = 128
    seed: int = 0
    shift: int = 2  # pixels of random translation; with a random horizontal flip


RECIPES = {
    "lenet300": Recipe("adamw", 1e-3, 1e-2, 20, shift=1),
    "lenet5": Recipe("adamw", 1e-3, 1e-2, 9),
    "resnet20": Recipe(epochs=7),
    "vgg_small": Recipe(epochs=6),
    "mobilenetv2": Recipe("adamw", 3e-3, 2e-2, 7),
    "vit_tiny": Recipe("adamw", 2e-3, 5e-2, 9, shift=1),
}


def augment(images: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Random translation by up to ``shift`` pixels and random horizontal flip, per image: (B, 1, 28, 28)."""
    batch = len(images)
    flip = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
    images = torch.where(flip, images.flip(3), images)
    padded = F.pad(images, [shift] * 4, value=-data.MEAN / data.STD)
    offset = torch.randint(0, 2 * shift + 1, (2, batch), generator=generator)
    rows = offset[0, :, None] + torch.arange(28)
    columns = offset[1, :, None] + torch.arange(28)
    index = torch.arange(batch)[:, None, None]
    return padded[index, 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Mean cross-entropy in nats and accuracy in per cent."""
    model.eval()
    logits = torch.cat([model(x) for x in images.split(500)])
    return F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).float().mean().item() * 100


def train(name: str, recipe: Recipe) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train one net; returns it in eval mode with one log row per epoch."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    model = NETS[name]().to(memory_format=torch.channels_last)  # up to twice as fast as NCHW on CPUs
    images, labels = data.load("train")
    images = images.contiguous(memory_format=torch.channels_last)
    held_out = data.load("development")
    kind = {"sgd": lambda p: torch.optim.SGD(p, recipe.rate, 0.9, nesterov=True, weight_decay=recipe.decay),
            "adamw": lambda p: torch.optim.AdamW(p, recipe.rate, weight_decay=recipe.decay)}[recipe.optimiser]
    optimiser = kind(model.parameters())
    steps = len(images) // recipe.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, recipe.epochs * steps, pct_start=0.2, cycle_momentum=False
    )
    log: list[dict[str, float]] = []
    start = time.time()
    for epoch in range(recipe.epochs):
        model.train()
        total = 0.0
        for rows in torch.randperm(len(images), generator=generator)[: steps * recipe.batch].split(recipe.batch):
            loss = F.cross_entropy(model(augment(images[rows], recipe.shift, generator)), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            total += loss.item()
        dev_loss, dev_accuracy = evaluate(model, *held_out)
        log.append({"epoch": epoch + 1, "train_loss": round(total / steps, 5), "dev_loss": round(dev_loss, 5),
                    "dev_accuracy": round(dev_accuracy, 2), "seconds": round(time.time() - start, 1)})
        print(name, log[-1], flush=True)
    return model.eval(), log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=sorted(NETS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    WEIGHTS.mkdir(exist_ok=True)
    for name in options.names:
        recipe = RECIPES[name]
        if options.epochs:
            recipe = Recipe(**{**asdict(recipe), "epochs": options.epochs})
        model, log = train(name, recipe)
        loss, accuracy = evaluate(model, *data.load("test"))
        path = WEIGHTS / f"{name}.safetensors"
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
        record = {"net": name, "recipe": asdict(recipe), "torch": torch.__version__, "log": log,
                  "test_loss": round(loss, 5), "test_accuracy": round(accuracy, 2),
                  "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        (WEIGHTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        print(name, f"test loss {loss:.4f} nats, accuracy {accuracy:.2f} %", flush=True)


if __name__ == "__main__":
    main()
