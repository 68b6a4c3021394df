"""The key that identifiers are hashed with, compared with the one that was used so far.

Each entry of a delivery has the fingerprint of its key. So it is restored together with the journal.
"""

from include.core.errors import ActionRequiredError, ConfigError
from include.core.names import key_mark, raw_table
from include.core.personal import KEY, HashKey
from include.core.settings import Settings
from include.io import postgres, rewritten
from include.io.tables import Tables


def read_hash_key(settings: Settings, project: str) -> HashKey:
    """Return the key to hash with.

    Raises:
        ConfigError: it can be guessed, or is another one than that of the deliveries in the journal.
        ActionRequiredError: the rows of the project were pulled from another installation, or its raw tables are from
            before a rotation of the key.
    """
    if postgres.hash_keys.was_pulled(settings, project):
        raise ActionRequiredError(
            f"{project}: its rows were pulled from another installation (pull), and those of files would not meet "
            "them. Pull further days instead, or begin with an empty installation (make reset)"
        )
    _require_rotated(settings, project)
    key, used = HashKey.of(settings.hash_key.get_secret_value()), postgres.journal.read_fingerprint(settings)
    if used not in (None, key.fingerprint):
        if used and key.until(used):
            raise ConfigError(
                f"{KEY} has keys that were added since, and stored identifiers are not hashed with them yet. Nothing "
                "was hashed. Run: python -m include.cli rehash --by NAME --why REASON, or take the new keys out again"
            )
        raise ConfigError(
            f"{KEY} is another one than before: its fingerprint is {key.fingerprint}, and that of the key with which "
            f"identifiers were hashed so far is {used}. With two keys an identifier has two hashes, and its rows never "
            "meet. Nothing was hashed. Put the old key back: docs/runbooks/hash-key.md"
        )
    return key


def _require_rotated(settings: Settings, project: str) -> None:
    """Refuse raw tables whose rows are not hashed by the keys that the journal says, as after a restore of old ones."""
    if (finished := postgres.hash_keys.read_finished(settings, project)) is None:
        return
    fingerprint, feeds = finished
    tables = Tables(settings)
    for table in (raw_table(project, feed) for feed in feeds):
        if tables.exists(table) and not rewritten.has_mark(tables, table, key_mark(fingerprint)):
            raise ActionRequiredError(
                f"{table} is from before the rotation of the hash key to fingerprint {fingerprint}, so its hashes are "
                "others than those of later rows. Restore it from a backup made after the rotation: "
                "docs/security.md#rotating-the-hash-key"
            )
