"""`make pin-images`: name each image that comes from a registry by its digest, which is the hash of its content.

The digest is what counts; the tag before it says which image it was, and which one to ask for next time. The registries
are asked by Docker, with its own logins, proxies and mirrors. `make check` refuses an image without a digest.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator

from tools.generated import ROOT

FILES = [ROOT / "docker-compose.yaml", ROOT / "Dockerfile", ROOT / ".env.example"]
BUILT_HERE = "NIGHTLY_IMAGE"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# `X_IMAGE=…`, `X_IMAGE: …`, `${X_IMAGE:-…}`, `image: …`, `FROM …`
SETTING = re.compile(
    r"\$\{(?P<name>\w+_IMAGE):-(?P<image>[^}]+)\}|(?:^|ARG )(?P<name2>\w+_IMAGE)=(?P<image2>\S+)", re.MULTILINE
)
PLAIN = re.compile(r"^\s*(?:image:|FROM)\s+(?P<image>[\w./-]+:[\w.-]+(?:@\S+)?)", re.MULTILINE)
INSPECT = ("docker", "buildx", "imagetools", "inspect", "--format", "{{.Manifest.Digest}}")


def images(text: str) -> Iterator[str]:
    """Yield every image that a file names and that comes from a registry, with its digest if there is one."""
    for match in SETTING.finditer(text):
        if (match["name"] or match["name2"]) != BUILT_HERE:
            yield match["image"] or match["image2"]
    for match in PLAIN.finditer(text):
        yield match["image"]


def problems(texts: dict[str, str]) -> Iterator[str]:
    """Yield what is wrong: an image without a digest, or with another one in another file."""
    seen: dict[str, tuple[str, str]] = {}
    for name, text in texts.items():
        for image in images(text):
            tag, _, digest = image.partition("@")
            if not DIGEST.fullmatch(digest):
                yield f"{name}: {image} has no digest, so that another content could come under its name"
            elif seen.setdefault(tag, (digest, name))[0] != digest:
                yield f"{name}: {tag} has another digest than in {seen[tag][1]}"


def ask(tag: str) -> str:
    """Return the digest that the registry has for a tag now."""
    try:
        done = subprocess.run([*INSPECT, tag], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise SystemExit(
            "docker is not installed here. Install Docker with buildx, or set the images in .env"
        ) from None
    digest = done.stdout.strip()
    if done.returncode or not DIGEST.fullmatch(digest):
        why = done.stderr.strip() or digest
        raise SystemExit(
            f"the registry did not say the digest of {tag}: {why}. No file was changed. Docker needs its plugin buildx"
        )
    return digest


def _pinned(image: str) -> str:
    tag = image.partition("@")[0]
    return f"{tag}@{ask(tag)}"


def main() -> int:
    """Pin the images, or check that they are pinned; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="ask no registry; fail if an image has no digest")
    check = parser.parse_args().check
    texts = {path.name: path.read_text(encoding="utf-8") for path in FILES}
    if check:
        found = list(problems(texts))
        sys.stderr.writelines(f"{problem}. Run: make pin-images\n" for problem in found)
        return 1 if found else 0
    named = dict.fromkeys(image for text in texts.values() for image in images(text))
    pinned = {image: _pinned(image) for image in named}
    for path in FILES:
        text = texts[path.name]
        for image in dict.fromkeys(images(text)):
            text = re.sub(rf"{re.escape(image)}(?![\w@.-])", pinned[image], text)
        path.write_text(text, encoding="utf-8")
    for image, new in sorted(pinned.items()):
        sys.stdout.write(f"{new}{' (as before)' if new == image else ''}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
