"""Reads a page as a browser would, strictly: tags have to balance, and every attribute is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


@dataclass(frozen=True)
class Tag:
    name: str
    attributes: dict[str, str | None]


@dataclass
class Page:
    tags: list[Tag] = field(default_factory=list)
    text: str = ""
    unbalanced: list[str] = field(default_factory=list)

    def named(self, *names: str) -> list[Tag]:
        return [tag for tag in self.tags if tag.name in names]

    def values(self, attribute: str) -> list[str]:
        return [tag.attributes[attribute] or "" for tag in self.tags if attribute in tag.attributes]


def read(html: str) -> Page:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    reader.page.unbalanced += reader.open
    return reader.page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page, self.open = Page(), list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.tags.append(Tag(tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.tags.append(Tag(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.page.unbalanced.append(f"</{tag}> after {self.open[-3:]}")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.page.text += data
