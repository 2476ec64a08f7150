"""An entry of the cache is named by its content, made once, and never seen half-made."""

from pathlib import Path

import pytest

from hack import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE", tmp_path)


def test_texts_do_not_run_together_in_a_digest() -> None:
    assert cache.digest(["ab", "c"]) != cache.digest(["a", "bc"])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_text("other"), id="content"),
        pytest.param(lambda file: file.rename(file.with_name("renamed")), id="name"),
        pytest.param(lambda file: file.chmod(0o755), id="permission to run"),
    ],
)
def test_a_digest_of_files_changes_with(change, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("content")
    before = cache.digest_files(tmp_path, [file])
    change(file)
    assert cache.digest_files(tmp_path, tmp_path.glob("*")) != before


def test_the_time_of_a_file_is_no_part_of_its_digest(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    before = cache.digest_files(tmp_path, [file])
    file.touch()
    assert cache.digest_files(tmp_path, [file]) == before


def test_an_entry_is_made_once() -> None:
    made: list[str] = []
    for number in ("first", "second"):
        cache.entry("kind", "key", lambda place, number=number: made.append(number))
    assert made == ["first"]


def test_an_entry_that_could_not_be_made_is_made_anew() -> None:
    def fail(place: Path) -> None:
        (place / "half").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.entry("kind", "key", fail)
    place = cache.entry("kind", "key", lambda place: (place / "whole").touch())
    assert [path.name for path in place.iterdir()] == ["whole"]
