from __future__ import annotations

import threading

import pytest
import torch

from noworse.run.threads import each


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_items(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        meeting = threading.Barrier(threads, timeout=60)  # all threads are at work at once

        def work(item: int) -> tuple[int, int]:
            meeting.wait()
            return item, torch.get_num_threads()

        assert list(each(work, range(6))) == [(item, 1) for item in range(6)]
        assert torch.get_num_threads() == threads
        with pytest.raises(ZeroDivisionError):
            list(each(lambda item: 1 // item, [1, 0]))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
