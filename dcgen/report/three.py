"""three.js as a script of its own: fetched by npm in a pinned version, checked, and kept out of the repository.

`python -m dcgen.report.three` puts it into vendor/; a second call finds it there. Exit code 1 where it cannot.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from dcgen.errors import DcgenError

VERSION = "0.187.0"
SHA512 = (
    "422bbb47e0a687c0acb59b18d6e24e4969d595fa3b66d34b57b985f0996d9372"
    "c1dc0b43bbd71166572744a90093c638cfa28ac37e73ed8ed4addee3598f1eb4"
)
VENDOR = Path(__file__).resolve().parent / "vendor"
SCRIPT, LICENCE = VENDOR / f"three-{VERSION}.js", VENDOR / "three-LICENSE.txt"
REMEDY = "with npm installed, run: python -m dcgen.report.three"
_NAMES = re.compile(r"\{([^{}]*)\}")
_LAST_EXPORT = re.compile(r"^export \{[^{}]*\};\s*\Z", re.MULTILINE)


def three_script() -> str:
    """The text of a classic script that defines THREE. Raises DcgenError where it was not fetched."""
    try:
        return SCRIPT.read_text(encoding="utf-8")
    except OSError as fault:
        raise DcgenError(f"a report needs three.js {VERSION}, which is not there; {REMEDY}") from fault


def fetch(package: str = f"three@{VERSION}") -> Path:
    """Ask npm for the package, check its digest, and write the script. Raises DcgenError."""
    npm = shutil.which("npm")
    if npm is None:
        raise DcgenError(f"three.js {VERSION} is fetched by npm, which is not there; {REMEDY}")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", package, "--pack-destination", folder, "--silent"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=180, cwd=folder)
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise DcgenError(f"npm pack {package}: {type(fault).__name__}; check the network, then {REMEDY}") from fault
        packed = sorted(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(packed) != 1:
            said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1][:200]
            raise DcgenError(f"npm pack {package}: {said}; check the network, then {REMEDY}")
        script, licence = unpack(packed[0].read_bytes())
    VENDOR.mkdir(parents=True, exist_ok=True)
    LICENCE.write_text(licence, encoding="utf-8")
    part = SCRIPT.with_suffix(".part")
    part.write_text(script, encoding="utf-8")
    part.replace(SCRIPT)
    return SCRIPT


def unpack(package: bytes, sha512: str = SHA512) -> tuple[str, str]:
    """The script and the licence in npm's package. Raises DcgenError where it is not the pinned one."""
    if hashlib.sha512(package).hexdigest() != sha512:
        raise DcgenError(f"three.js {VERSION}: what npm fetched has another sha512; nothing was kept")
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:

        def text(name: str) -> str:
            member = archive.extractfile(f"package/{name}")
            assert member is not None, name
            return member.read().decode("utf-8")

        return classic(text("build/three.core.js"), text("build/three.module.js")), text("LICENSE")


def classic(core: str, module: str) -> str:
    """One script for two ES modules: a page opened from a file may not import, and needs no more than THREE.

    The module names what it takes from the core in one import, passes some of it on, and ends in its exports.
    """
    lines = module.splitlines(keepends=True)
    (taken,) = (line for line in lines if line.startswith("import {"))
    own = "".join(line for line in lines if not (line.startswith(("import {", "export {")) and " from " in line))
    parts = ["const THREE = (() => {", '"use strict";', "const core = (() => {", _returning(core, ""), "})();"]
    parts += [f"const {{ {_pairs(taken)} }} = core;", _returning(own, "...core, "), "})();", ""]
    return "\n".join(parts)


def _returning(module: str, also: str) -> str:
    """A module's text whose last statement returns what it exported."""
    found = _LAST_EXPORT.search(module)
    assert found is not None, "three.js is built in another way"
    return f"{module[: found.start()]}return {{ {also}{_pairs(found[0], turned=True)} }};"


def _pairs(statement: str, turned: bool = False) -> str:
    """The names of an import or export, `a as b` as `a: b`, or turned `b: a`."""
    found = _NAMES.search(statement)
    assert found is not None
    names = [name.split(" as ") for name in map(str.strip, found[1].split(",")) if name]
    return ", ".join(": ".join(reversed(name) if turned else name) for name in names)


if __name__ == "__main__":
    try:
        print(SCRIPT if SCRIPT.is_file() else fetch())
    except DcgenError as fault:
        sys.exit(str(fault))
