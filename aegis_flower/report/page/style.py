"""The frame of a report page: style sheet, mark, footer, and the policy that admits nothing else."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from aegis_flower.report.words import esc

FOOTER: Final = (
    "<footer>This page is evidence for what one run did. Whether that meets a law, a policy or an agreement is for its "
    "readers to judge. Every number here is in report.json, or a sum of such.</footer>"
)

MARK: Final = (
    '<svg class="logo" viewBox="0 0 20 20" aria-hidden="true">'
    '<path d="M10 1.5 17 4v5.6c0 4.2-2.8 7.2-7 8.9-4.2-1.7-7-4.7-7-8.9V4z"/>'
    '<path class="in" d="M6.6 9.9 9 12.3l4.5-4.8"/></svg>'
)

STYLE: Final = """
:root{color-scheme:light dark;--bg:#f6f6f3;--card:#fff;--ink:#1b1f23;--soft:#5a636d;--line:#e2e2dc;--accent:#0a6c74;
--tint:#d3e7e6;
--eps:#a35a00;--good:#1a7440;--warn:#8a5a00;--bad:#b3261e;--badtint:#fbe6e3;--warntint:#faeed3;--goodtint:#e0f1e5;
--c0:#0a6c74;--c1:#c8692b;--c2:#5a5fc0;--c3:#a83e76;--c4:#6f7f2d;--c5:#3f86c4;--rest:#9aa1a8}
@media(prefers-color-scheme:dark){:root{--bg:#0f1214;--card:#161a1d;--ink:#e4e7e9;--soft:#97a1aa;--line:#293036;
--accent:#4fbdb8;
--tint:#1d4145;--eps:#e0a04c;--good:#5cc489;--warn:#e0b04c;--bad:#ff8a80;--badtint:#3a1d1c;--warntint:#352a14;
--goodtint:#16301f;
--c0:#4fbdb8;--c1:#e8935a;--c2:#9a9ef0;--c3:#de83b1;--c4:#b3c264;--c5:#78b4e6;--rest:#6d767e}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 Inter,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;
font-variant-numeric:tabular-nums;-webkit-font-smoothing:antialiased}
main{max-width:1104px;margin:0 auto;padding:40px 20px 56px}
h1,h2,h3,p,dl,ul{margin:0}
h1{font-size:32px;line-height:1.2;font-weight:650;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:15px;font-weight:650;letter-spacing:-.005em}
h3{font-size:13px;font-weight:550;color:var(--soft)}
code,pre,.mono dd{font-family:ui-monospace,"SF Mono",SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
font-size:.86em}
.over{display:flex;align-items:center;gap:8px;margin-bottom:14px;font-size:13px;color:var(--soft)}
.over code{margin-left:auto;overflow-wrap:anywhere}
.logo{width:18px;height:18px;fill:var(--accent)}.logo .in{fill:none;stroke:var(--card);stroke-width:1.8}
.lead{margin-top:8px;color:var(--soft)}
.pill{display:inline-block;vertical-align:middle;margin-left:6px;padding:2px 10px;border-radius:99px;
font-size:12.5px;line-height:20px;
font-weight:600;letter-spacing:0;color:var(--soft);background:var(--line)}
.pill.good{color:var(--good);background:var(--goodtint)}.pill.warn{color:var(--warn);background:var(--warntint)}
.pill.bad{color:var(--bad);background:var(--badtint)}
.banner{margin-top:16px;padding:11px 16px;border-radius:8px;font-weight:600}
.banner.bad{color:var(--bad);background:var(--badtint)}.banner.warn{color:var(--warn);background:var(--warntint)}
.gap{height:24px}
.tiles{display:grid;grid-template-columns:repeat(4,1fr);margin:28px 0 20px;background:var(--card);
border:1px solid var(--line);border-radius:12px}
.tile{padding:18px 20px 16px;min-width:0}.tile+.tile{border-left:1px solid var(--line)}
.value{margin:4px 0 8px;font-size:32px;line-height:1.15;font-weight:600;letter-spacing:-.025em;white-space:nowrap}
.value small{font-size:14px;font-weight:450;letter-spacing:0;color:var(--soft)}
.value.bad{color:var(--bad)}
.tile b{font-weight:600;color:var(--ink)}
.meter{display:block;width:100%;height:14px;margin-bottom:10px}
.track{fill:var(--line)}.fill.accent{fill:var(--accent)}.fill.eps{fill:var(--eps)}.fill.good{fill:var(--good)}
.fill.bad{fill:var(--bad)}
.fill.c1{fill:var(--c1)}.mark{fill:var(--ink)}
.note,.none{font-size:13px;line-height:1.5;color:var(--soft);overflow-wrap:anywhere}
.two{display:grid;grid-template-columns:1fr 1fr;gap:20px}
.card{min-width:0;background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 22px 20px;
margin-bottom:20px}
.two>.card{margin-bottom:0}.two{margin-bottom:20px}
.plot{margin-top:14px}.plot>svg,.broad>svg,.narrow>svg{display:block;width:100%;height:auto}.narrow{display:none}.wide{display:block;height:auto;min-width:100%}
.plot details{margin-top:14px}
svg text{font-family:inherit;font-variant-numeric:tabular-nums}
.grid{stroke:var(--line);stroke-width:1}.tick{font-size:12px;fill:var(--soft)}.row{font-size:12.5px;fill:var(--ink)}
.rule{stroke-width:1.5;stroke-dasharray:5 4}.rule.quiet{stroke:var(--soft)}.rule.limit{stroke:var(--bad)}
.line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}
.accent .line{stroke:var(--accent)}.accent circle{fill:var(--accent)}.eps .line{stroke:var(--eps)}
.eps circle{fill:var(--eps)}
.c0 .line{stroke:var(--c0)}.c0 circle{fill:var(--c0)}.c1 .line{stroke:var(--c1)}.c1 circle{fill:var(--c1)}
.c2 .line{stroke:var(--c2)}.c2 circle{fill:var(--c2)}.c3 .line{stroke:var(--c3)}.c3 circle{fill:var(--c3)}
.c4 .line{stroke:var(--c4)}.c4 circle{fill:var(--c4)}.c5 .line{stroke:var(--c5)}.c5 circle{fill:var(--c5)}
circle{stroke:var(--card);stroke-width:1.5}.fine circle{stroke:none}
.end{font-size:12px;fill:var(--soft)}.end.strong{font-weight:650}.end.limit{fill:var(--bad)}
.end.accent{fill:var(--accent)}
.end.eps{fill:var(--eps)}.end.c0{fill:var(--c0)}.end.c1{fill:var(--c1)}.end.c2{fill:var(--c2)}
.end.c3{fill:var(--c3)}
.end.c4{fill:var(--c4)}.end.c5{fill:var(--c5)}
.bar.c0{fill:var(--c0)}.bar.c1{fill:var(--c1)}.bar.c2{fill:var(--c2)}.bar.c3{fill:var(--c3)}.bar.c4{fill:var(--c4)}
.bar.c5{fill:var(--c5)}
.bar.rest{fill:var(--rest)}
.took{fill:var(--tint)}rect.away{fill:none;stroke:var(--line)}rect.lost,rect.took-lost{fill:var(--badtint);
stroke:var(--bad);stroke-width:1.25}
rect.took-lost{fill:var(--tint)}rect.said-no{fill:var(--warntint);stroke:var(--warn);stroke-width:1.25}
.cell{font-size:11px;font-weight:650;fill:var(--bad)}.cell.said-no{fill:var(--warn)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:14px;padding:0;list-style:none;font-size:13px;
color:var(--soft)}
.legend b{font-weight:600;color:var(--ink)}
.legend i{display:inline-block;width:11px;height:11px;margin-right:7px;border-radius:3px;vertical-align:-1px;
border:1px solid transparent}
.legend .c0{background:var(--c0)}.legend .c1{background:var(--c1)}.legend .c2{background:var(--c2)}
.legend .c3{background:var(--c3)}
.legend .c4{background:var(--c4)}.legend .c5{background:var(--c5)}.legend .rest{background:var(--rest)}
.legend .took{background:var(--tint)}.legend .lost{background:var(--badtint);border-color:var(--bad)}
.legend .said-no{background:var(--warntint);border-color:var(--warn)}.legend .away{border-color:var(--line)}
.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse;font-size:13.5px}
th{padding:6px 18px 6px 0;text-align:left;font-size:12px;font-weight:550;color:var(--soft);white-space:nowrap}
td{padding:9px 18px 9px 0;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:break-word}
td:last-child,th:last-child{padding-right:0}
td small{display:block;font-size:12px;line-height:1.45;color:var(--soft)}
td b{font-weight:600}b.good{color:var(--good)}b.bad{color:var(--bad)}.tile b.bad{color:var(--bad)}
.events{margin-top:14px}.events td{padding:7px 18px 7px 0}
.numbers td,.numbers th{text-align:right;white-space:nowrap;padding:4px 0 4px 16px}
.numbers td:first-child,.numbers th:first-child{padding-left:0}
.clients td:nth-child(4),.clients td:nth-child(5){white-space:nowrap}
.clients td:first-child,.trials td:first-child{font-weight:600}.clients td:first-child small{font-weight:400}
.plain{padding-left:18px}.plain li{margin:4px 0;overflow-wrap:anywhere}
dl{display:grid;
align-items:baseline;grid-template-columns:max-content minmax(0,1fr);gap:4px 20px;font-size:13.5px}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
details{border-top:1px solid var(--line)}summary{padding:10px 0;cursor:pointer;font-size:14px}
summary small{color:var(--soft);font-size:12.5px;margin-left:6px}summary::marker{color:var(--soft)}
details>:not(summary){margin-bottom:14px}.evidence h2{margin-bottom:12px}.evidence{padding-bottom:4px}
pre{margin:14px 0 0;padding:14px 16px;max-height:460px;overflow:auto;background:var(--bg);border-radius:8px;
line-height:1.5}
footer{margin:24px 4px 0;font-size:13px;color:var(--soft)}
@media(max-width:820px){.two{grid-template-columns:minmax(0,1fr)}.tiles{grid-template-columns:1fr 1fr}
.tile:nth-child(3){border-left:0}
.tile:nth-child(n+3){border-top:1px solid var(--line)}.plot{overflow-x:auto}
.events,.clients,.trials{min-width:660px}}
@media(max-width:460px){.broad{display:none}.narrow{display:block}
.tiles{grid-template-columns:1fr}.tile+.tile{border-left:0;border-top:1px solid var(--line)}
.over{flex-wrap:wrap}.over code{margin-left:0;width:100%}}
@media print{body{background:none}.card,.tiles{break-inside:avoid}}
""".strip()


def page(title: str, body: str) -> str:
    """A whole page around `body`, which is HTML. Its policy admits this style sheet, by digest, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-{digest}'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{esc(title)}</title><style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n"
    )
