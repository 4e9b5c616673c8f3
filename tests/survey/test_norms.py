import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.survey.norms import fold_norms


def randomise(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.copy_(torch.randn(layer.running_mean.shape, generator=generator))
            layer.running_var.copy_(torch.rand(layer.running_var.shape, generator=generator) + 0.3)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            nn.init.normal_(layer.weight, 1, 0.5)
            nn.init.normal_(layer.bias)
    return module.eval()


class Plain(nn.Module):
    """Every fold is exact: conv with and without bias before batch norm, layer norm before two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)
        self.norm, self.left, self.right = nn.LayerNorm(4), nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))).mean((2, 3))
        x = self.norm(x)
        return self.left(x) * torch.sigmoid(self.right(x))


class Shared(nn.Module):
    """No fold but the batch norm's own: other uses of the tensors between a layer and its norm, unseen by hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.norm, self.linear = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y = (self.bn(y) + y).mean((2, 3))
        z = self.norm(y)
        return self.linear(z) + z


@pytest.mark.parametrize(("kind", "expected"), [(Plain, {"bn1", "bn2", "norm"}), (Shared, set())])
def test_folds_only_where_exact(kind: type[nn.Module], expected: set[str]) -> None:
    model = randomise(kind())
    before = copy.deepcopy(model.state_dict())
    x = torch.randn(5, 2, 12, 12)
    folded, names = fold_norms(model, lambda module: module(x))
    assert set(names) == expected
    assert torch.allclose(folded(x), model(x), atol=1e-5)
    assert torch.allclose(folded.double()(x.double()), copy.deepcopy(model).double()(x.double()), atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "the model was changed"
    assert list(folded.state_dict()) == list(before)
    for name in expected:
        norm = folded.get_submodule(name)
        assert (norm.weight == 1).all()
    for norm in (m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)):
        assert (norm.running_mean == 0).all()
        assert norm.running_var.unique().numel() == 1


def test_a_norm_called_twice_is_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(self.fc(self.bn(self.fc(x))))

    model = randomise(Twice())
    x = torch.randn(6, 4)
    folded, names = fold_norms(model, lambda module: module(x))
    assert not names
    assert torch.allclose(folded(x), model(x), atol=1e-5)


def test_batch_norm_without_running_statistics_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    x = torch.randn(6, 4)
    folded, names = fold_norms(model, lambda module: module(x))
    assert not names
    assert torch.equal(folded(x), model(x))


def test_layers_that_are_called_by_keyword_are_folded() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: Tensor) -> Tensor:
            return self.bn(input=self.fc(input=x))

    model, x = randomise(Named()), torch.randn(6, 4)
    folded, names = fold_norms(model, lambda module: module(x))
    assert names == ["bn"]
    assert torch.allclose(folded(x), model(x), atol=1e-5)
