"""A call that runs from one event to the next, and only when it is let."""

import pytest

from unified.web.errand import Errand


def test_it_runs_from_event_to_event_and_no_further():
    done = []

    def work(tell):
        for number in range(3):
            done.append(number)
            tell(number + 1)

    errand = Errand(work)
    assert done == []
    assert [errand.advance(), done[:]] == [1, [0]]
    assert [errand.advance(), errand.advance(), errand.advance(), errand.advance()] == [2, 3, None, None]
    assert errand.over


def test_what_it_raises_is_raised_where_it_is_waited_for():
    def work(tell):
        tell(1)
        raise ValueError("wrong")

    errand = Errand(work)
    errand.advance()
    with pytest.raises(ValueError, match="wrong"):
        errand.advance()
    assert errand.advance() is None


def test_a_stopped_call_ends_as_by_an_interrupt_and_may_say_so():
    ended = []

    def work(tell):
        try:
            while True:
                tell("on")
        except KeyboardInterrupt:
            tell("stopped")  # nobody waits for it, and nothing hangs
            ended.append(True)

    errand = Errand(work)
    errand.advance()
    errand.stop()
    assert ended == [True]
    assert errand.over
    unborn = Errand(work)
    unborn.stop()
    assert unborn.over
    assert unborn.advance() is None
