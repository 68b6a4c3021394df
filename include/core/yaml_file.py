"""Read YAML files of projects, and name the line of a key that is wrong. What keys mean does not belong here."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from include.core.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """Return what a YAML file declares.

    The file is read as YAML 1.2: `10:30` is a text, not the number 630 in base 60, and `NO` is a text, not false.
    A text that this process, or the one that forked it, has parsed before is not parsed again.

    Raises:
        ConfigError: the file is not YAML, has a key twice, or is no mapping. The message names the file, and the line
            of what is not YAML.
    """
    try:
        declared = _load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not YAML: {error.problem}") from error
    except YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply, or contains itself") from error
    except (ValueError, KeyError, AssertionError) as error:  # of a tag, or of a date such as 2013-02-30
        raise ConfigError(f"{path}: a value cannot be read: {error}") from error
    if not isinstance(declared, dict):
        raise ConfigError(f"{path}: must be a mapping of keys")
    return declared


def key_error(path: Path, *sentences: str) -> ConfigError:
    """Return the error of sentences that each begin with the key they are about: `gate.quality.0: …`."""
    return ConfigError([f"{place(path, *keys_of(text))}: {text}" for text in sentences])


def keys_of(sentence: str) -> list[str]:
    """Return the words at the beginning of a sentence that may be keys: `gate.checks.0: …`."""
    return re.split("[.:] ?", sentence)


def place(path: Path, *keys: str) -> str:
    """Return a file and the line of a key in it, for a message.

    Args:
        path: a YAML file that `read_yaml` can read.
        keys: the keys and list positions that lead to the key. What the file does not have is left out, so that a
            missing key has the line of its section.
    """
    node: Node = _yaml().compose(path.read_text(encoding="utf-8"))
    line = ""
    for key in keys:
        inside = _inside(node)
        if key in inside:
            begin, node = inside[key]
            line = f", line {begin.start_mark.line + 1}"
    return f"{path}{line}"


def _inside(node: Node) -> dict[str, tuple[Node, Node]]:
    """Map each key of a mapping, or position in a list, to the node that begins its line, and to its value."""
    if isinstance(node, MappingNode):
        return {str(key.value): (key, value) for key, value in node.value}
    if isinstance(node, SequenceNode):
        return {str(position): (value, value) for position, value in enumerate(node.value)}
    return {}


def _load(text: str) -> Any:
    return _copied(_parsed(text), {})  # so that nobody changes what the next one reads


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """Parse a text with the parser in C, where it is installed; if that finds an error, the other one explains it."""
    try:
        return YAML(typ="safe").load(text)
    except YAMLError:
        return _yaml().load(text)


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    """Copy what was parsed, but what several aliases stand for only once; `copy.deepcopy` takes longer."""
    if not isinstance(value, dict | list):
        return value
    if (own := id(value)) not in copies:
        copies[own] = (
            {key: _copied(each, copies) for key, each in value.items()}
            if isinstance(value, dict)
            else [_copied(each, copies) for each in value]
        )
    return copies[own]


def _yaml() -> YAML:
    """Return a parser for one text. It refuses a key that stands twice, and tags that would run code."""
    return YAML(typ="safe", pure=True)
