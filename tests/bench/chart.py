"""One SVG: what each server answers a second."""

from xml.sax.saxutils import escape

WIDTH, LABEL, BAR, GAP = 720, 300, 22, 10


def draw(rows):
    rates = [row for row in rows if row["unit"] == "req/s"]
    most = max((row["value"] for row in rates), default=1)
    height = 40 + len(rates) * (BAR + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="10" y="22" font-weight="bold">Answers a second on one core</text>',
    ]
    for number, row in enumerate(rates):
        y = 36 + number * (BAR + GAP)
        length = (WIDTH - LABEL - 90) * row["value"] / most
        colour = "#9aa5b1" if row["what"].startswith("bare") else "#ff6a00"
        parts += [
            f'<text x="10" y="{y + 15}">{escape(row["what"])}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{length:.0f}" height="{BAR}" fill="{colour}"/>',
            f'<text x="{LABEL + length + 6:.0f}" y="{y + 15}">{row["value"]:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
