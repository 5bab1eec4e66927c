"""The trusted process of a node beside a stock SuperNode may be put here: `aegis node run`.

    SuperLink ──── flower-supernode --isolation process ──── aegis node run (vault, permits, ledger, gates, masks)
                                                               └── jail: code of apps, one child for each task

`flower` speaks Flower's Runtime API, `loop` claims and answers, `answers` decides who answers, `control` has the operator's
orders.
"""
