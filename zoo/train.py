"""Train the nets of the zoo on Fashion-MNIST: ``python -m zoo.train NAME [--epochs N] [--threads N]``.

Writes ``weights/NAME.safetensors`` and ``weights/NAME.json`` (settings, log per epoch, test accuracy and loss, SHA-256
of the weights). The last 5,000 training images are held out as the development split and are never trained on; the
test set is read once, after the last epoch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import data
from zoo.fitting import Recipe, fit, save
from zoo.nets import NETS

RECIPES = {
    "lenet300": Recipe("adamw", 1e-3, 1e-2, 20, shift=1),
    "lenet5": Recipe("adamw", 1e-3, 1e-2, 9),
    "resnet20": Recipe(epochs=7),
    "vgg_small": Recipe(epochs=6),
    "mobilenetv2": Recipe("adamw", 3e-3, 2e-2, 7),
    "vit_tiny": Recipe("adamw", 2e-3, 5e-2, 9, shift=1),
    "hybrid": Recipe("adamw", 3e-3, 5e-2, 2, shift=1, bfloat16=True),
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
    steps = len(images) // recipe.batch

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(images), generator=generator)[: steps * recipe.batch].split(recipe.batch):
            yield augment(images[rows], recipe.shift, generator), labels[rows]

    def judge(net: nn.Module) -> dict[str, float]:
        loss, accuracy = evaluate(net, *held_out)
        return {"dev_loss": loss, "dev_accuracy": round(accuracy, 2)}

    log = fit(model, epoch, steps, lambda net, batch: F.cross_entropy(net(batch[0]), batch[1]), judge, recipe)
    return model, log


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=sorted(NETS))
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in options.names:
        recipe = replace(RECIPES[name], epochs=options.epochs or RECIPES[name].epochs)
        model, log = train(name, recipe)
        loss, accuracy = evaluate(model, *data.load("test"))
        save(name, model, recipe, log, {"test_loss": round(loss, 5), "test_accuracy": round(accuracy, 2)})


if __name__ == "__main__":
    main()
