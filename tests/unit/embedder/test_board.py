"""What is computed can be read by another who has the same memory, also after its writer is gone."""

from __future__ import annotations

import os

from reembed.embedder.board import Board, Slot


def test_another_reads_the_calls_under_way_and_no_others() -> None:
    board = Board.make(3)
    other = Board(os.dup(board.descriptor))
    other.write(0, 12.7, 30, [(1, 0), (1, 2), (7, 0)])
    other.write(2, 13.0, 5, [(8, 4)])
    other.write(1, 13.0, 5, [(9, 0)])
    other.clear(1)
    other.close()
    assert list(board.slots()) == [Slot(12, 30, ((1, 0), (1, 2), (7, 0))), Slot(13, 5, ((8, 4),))]
    board.wipe()
    assert list(board.slots()) == []
