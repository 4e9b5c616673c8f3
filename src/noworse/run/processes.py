"""Several processes that compress one model together, each with its share of every batch.

Every rank runs the same program on the same inputs; what costs time, the net's forward and backward passes, is shared.
Where ranks could drift apart the first one's values are copied. Only the first rank reads and writes files.

A rank that fails says why in the store that torchrun (or the first rank) keeps, and closes its connections. The others
then fail in their next exchange, read there what happened, and raise the same error. A rank that says nothing is dead:
those still alive report to each other, and name the one that does not.
"""

import functools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from noworse.errors import BadInput, CorruptFile, NoWorseError

TIMEOUT = 1800.0  # seconds until a silent rank counts as lost; one whose connection closed is noticed at once
GRACE = 3.0  # seconds in which ranks tell each other what happened
ENVIRONMENT = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # of torchrun
TOLD_ERRORS: dict[str, type[NoWorseError]] = {kind.__name__: kind for kind in (BadInput, CorruptFile)}


class RankFailed(NoWorseError):
    """Another rank failed or vanished."""


class World:
    """One process among ``size``; methods other than ``rows`` are calls that all ranks make in the same order."""

    def __init__(self, rank: int = 0, size: int = 1, group: Any = None, store: Any = None) -> None:
        self.rank, self.size = rank, size
        self.first = rank == 0  # whether this is the rank that writes and reports
        self._group, self._store = group, store
        self._told = False  # whether the end came from elsewhere

    @property
    def last(self) -> bool:
        """Whether this is the last rank: the first one, too, where it is alone."""
        return self.rank == self.size - 1

    def rows(self, count: int) -> slice:
        """Return this rank's share of ``count`` samples: a part of them in their order, which may be empty."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def takes(self, number: int, spare: bool = False) -> bool:
        """Return whether batch ``number`` is this rank's, of those that ranks take in turn.

        With ``spare`` the last of several takes none.
        """
        return number % (self.size - (spare and self.size > 1)) == self.rank

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace ``tensor`` by its sum over all ranks, the same bits on each."""
        if self.size > 1:
            self._exchange(lambda: dist.all_reduce(tensor, group=self._group))
        return tensor

    def copy_(self, tensors: Sequence[Tensor], rank: int = 0) -> None:
        """Replace ``tensors`` by those of one rank, the first unless another is named."""
        for tensor in tensors if self.size > 1 else ():
            if tensor.numel():
                self._exchange(functools.partial(dist.broadcast, tensor, rank, group=self._group))

    def reduce_(self, parts: Sequence[Tensor]) -> None:
        """Replace each rank's one of the ``parts`` by its sum over all ranks; what others hold there is lost."""
        for rank, part in enumerate(parts if self.size > 1 else ()):
            if part.numel():
                self._exchange(functools.partial(dist.reduce, part, rank, group=self._group))

    def spread_(self, parts: Sequence[Tensor]) -> None:
        """Replace each of the ``parts`` by that of the rank whose it is."""
        for rank, part in enumerate(parts):
            self.copy_([part], rank)

    def send(self, content: bytes, rank: int = 0) -> bytes:
        """Return one rank's ``content``; what the others pass is not looked at."""
        if self.size == 1:
            return content
        length = torch.tensor([len(content)], device="cpu")
        self.copy_([length], rank)
        held = bytearray(content if self.rank == rank else bytes(int(length)))
        if held:  # of nothing torch makes no tensor
            self.copy_([torch.frombuffer(held, dtype=torch.uint8)], rank)
        return bytes(held)

    def agree(self, value: Any, rank: int = 0) -> Any:
        """Return one rank's ``value``, of JSON's types."""
        return json.loads(self.send(json.dumps(value).encode(), rank)) if self.size > 1 else value

    def lead(self, action: Callable[[], Any]) -> Any:
        """Return what an action that the first rank alone carries out returns, of JSON's types."""
        return self.agree(action() if self.first else None)

    def require_same(self, given: dict[str, Any]) -> None:
        """Raise BadInput unless all ranks were given the same; ``given`` tells what was, by name."""
        expected = self.agree(given)
        differs = [name for name, value in given.items() if self.size > 1 and value != expected[name]]
        if differs:
            raise BadInput(f"{' and '.join(differs)} differ from rank 0's: expected the same on every rank")

    def _exchange(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except RuntimeError as error:  # all that torch.distributed raises
            raise self._explain(error) from error

    def _explain(self, error: RuntimeError) -> NoWorseError:
        """What made an exchange fail: the error that another rank told, else the ranks that are not heard of."""
        self._told = True
        try:
            self._store.set(f"alive {self.rank}", "1")
            silent = [rank for rank in range(self.size) if rank != self.rank]
            end = time.monotonic() + GRACE
            while silent and time.monotonic() < end:
                if self._store.check(["error"]):
                    told = json.loads(self._store.get("error"))
                    if told["kind"] in TOLD_ERRORS:
                        return TOLD_ERRORS[told["kind"]](f"rank {told['rank']}: {told['message']}")
                    return RankFailed(f"rank {told['rank']} failed with {told['kind']}: {told['message']}")
                silent = [rank for rank in silent if not self._store.check([f"alive {rank}"])]
                time.sleep(0.05)
        except RuntimeError:  # the store is gone, and with it the process that kept it
            silent = [] if "TORCHELASTIC_RUN_ID" in os.environ else [0]
        who = f"rank {' and '.join(map(str, silent))} of {self.size}" if silent else "the connection between ranks"
        return RankFailed(f"{who} was lost: {str(error).splitlines()[0]}")

    def leave(self, error: BaseException | None = None) -> None:
        """Close the connections to the others, who are told the ``error`` by which this rank ends, if any.

        The store is kept until every rank has read what is in it, or some time has passed.
        """
        if self.size == 1:
            return
        with suppress(RuntimeError):  # the store may be gone: then the others see a closed connection
            if error is not None and not self._told:
                what = {"rank": self.rank, "kind": type(error).__name__, "message": str(error)}
                self._store.compare_set("error", "", json.dumps(what))
        dist.destroy_process_group(self._group)
        self._group = None
        with suppress(RuntimeError):
            if error is not None:
                self._store.add("ended", 1)
                end = time.monotonic() + GRACE
                while self.first and self._store.add("ended", 0) < self.size and time.monotonic() < end:
                    time.sleep(0.05)


ALONE = World()


def is_first() -> bool:
    """Whether this process, of those that torchrun started, is the one that reports."""
    return os.environ.get("RANK", "0") == "0"


_sessions = 0  # tells the keys of one session from those of the one before, in a store that outlives both


@contextmanager
def together() -> Iterator[World]:
    """The ranks of this process's group: that of ``torch.distributed``, else one made here under torchrun, else alone.

    Every rank enters and leaves; an error on one ends all. NoWorseError where not all of them arrive.
    """
    world = _join()
    try:
        yield world
    except BaseException as error:
        world.leave(error)
        raise
    world.leave()


def _join() -> World:
    grouped, launched = dist.is_initialized(), all(name in os.environ for name in ENVIRONMENT)
    if not grouped and (not launched or int(os.environ["WORLD_SIZE"]) == 1):
        return ALONE
    global _sessions
    _sessions += 1
    limit = timedelta(seconds=TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        if grouped:
            group = dist.new_group(timeout=limit, backend=backend)
            kept = dist.distributed_c10d._get_default_store()
            return World(dist.get_rank(), dist.get_world_size(), group, PrefixStore(f"noworse {_sessions}", kept))
        kept, rank, size = next(rendezvous("env://", timeout=limit))
        store = PrefixStore(f"noworse {_sessions}", kept)
        own = PrefixStore("group", store)
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=limit)
        return World(rank, size, dist.group.WORLD, store)
    except RuntimeError as error:
        wanted = os.environ.get("WORLD_SIZE", "the group's")
        raise NoWorseError(f"not all of {wanted} processes came together: {str(error).splitlines()[0]}") from error
