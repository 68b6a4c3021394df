"""What people are asked about a pending version: the text with the gate's table, and what follows from each answer."""

from collections.abc import Mapping
from datetime import datetime

from include.config.model import Model
from include.core.base import Record, Sentence
from include.core.printable import markdown
from include.core.records import GateDecision
from include.core.settings import Settings
from include.io import postgres
from include.io.postgres.promotions import PromotionEntry
from include.operations.pending import read_pending


class Question(Record):
    """A question about a pending version. `shown` is the digest of the files that the answer is about."""

    model: str
    model_version: int
    shown: str
    subject: Sentence
    body: str
    expires_at: datetime | None


def ask(model: Model, version: int | None, settings: Settings, links: Mapping[str, str]) -> Question | None:
    """Return the question about a pending version, by default the one of the latest run date.

    Args:
        model: the model.
        version: its number.
        settings: the database.
        links: pages about the version, by the text of the link.

    Returns:
        The question, None if the version does not wait any more.
    """
    pending = read_pending(model, settings, version)
    if pending is None:
        return None
    move = pending.move
    decision = postgres.gate_decisions.find_decision(settings, str(move.gate_id))
    champion = postgres.promotions.read_newest_champion(settings, model.name)
    assert decision is not None, "the database has the gate's decision of each pending version"
    since = postgres.promotions.read_champion_since(settings, model.name, str(move.gate_id))
    if since is not None:
        decided = postgres.gate_decisions.read_decisions(settings, model.name, move.model_version)
        again = [each for each, subject in decided if subject.model_digest == move.model_digest and each.passed]
        decision = next((each for each in again if each.champion == since.model_version), decision)
    return Question(
        model=model.name,
        model_version=move.model_version,
        shown=str(move.model_digest),
        subject=f"{model.title}: shall version {move.model_version} become the champion?",
        body=write_body(model, decision, champion, str(move.model_digest), move.expires_at, links, since),
        expires_at=move.expires_at,
    )


def write_body(
    model: Model,
    decision: GateDecision,
    champion: int | None,
    digest: str,
    expires_at: datetime | None,
    links: Mapping[str, str],
    since: PromotionEntry | None = None,
) -> str:
    """Return the question as Markdown. Text of configs and of the gate is text in it, not markup.

    `since` is the promotion by which the champion changed after the version became pending, if there is one.
    """
    version, day = decision.model_version, decision.interval.end
    now = "There is no champion yet" if champion is None else f"Version {champion} is the champion now"
    against = "no champion" if decision.champion is None else f"version {decision.champion}"
    rows = [
        f"| {'passed' if check.passed else 'FAILED'} | {markdown(check.name)} | {markdown(check.sentence)} |"
        for check in decision.checks
    ]
    trained = f"**Version {version} of {markdown(model.title)}** ({markdown(decision.candidate)}) was trained on {day}"
    stays = "there is still no champion" if champion is None else f"version {champion} stays"
    until = "" if expires_at is None else f" until {expires_at:%Y-%m-%d %H:%M} UTC"
    command = f"python -m include.cli approve --model {model.name} --version {version} --by … --why …"
    allowed = model.approved_by.allowed if model.approved_by else ()
    if since is not None and decision.champion == since.model_version:
        since = None  # the gate compared them since
    paragraphs = [
        f"{trained} and passed the gate, compared with {against} on {decision.rows:,} rows. {now}.",
        (
            f"**Before anybody can approve version {version}, run the gate again:** it was compared with {against}, "
            f"but {markdown(since.by)} made version {since.model_version} the champion since. Type "
            f"`python -m include.cli gate --model {model.name} --day {day}`, then look at the new figures."
        )
        if since is not None
        else "",
        (
            f"- **Approve:** version {version} becomes the champion, from the next day that is not published yet.\n"
            f"- **Decline:** {stays}, and nobody is asked about this version again.\n"
            f"- **No answer**{until}: {stays}. A newer version that passes the gate ends this question, too."
        ),
        " · ".join(f"[{markdown(text)}]({address})" for text, address in links.items()),
        "\n".join(["| result | check | measured |", "|---|---|---|", *rows]),
        f"These users may decide: {', '.join(map(markdown, allowed))}." if allowed else "",
        (
            f"The decision counts for the files with the digest `{digest[:12]}` only. To decide by command, type "
            f"`{command}`, or `decline` instead of `approve`."
        ),
    ]
    return "\n\n".join(filter(None, paragraphs))
