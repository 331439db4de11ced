"""Paper accounts: the strategy and the step of a backtest, fed by minutes as they become complete in the database.

    attributes      the attributes of a strategy as text, without loss
    accounts        an account between two minutes: state, strategy, settings; how it is made and loaded
    minutes         some minutes of an account: the one function for live minutes and for a reconciliation
    loading         what minutes read: one market for all accounts of an exchange
    switches        what turns an account off: the switch of all, kill switches, the dead man's switch
    program         the program `trader`: waits until minutes are complete, steps them, stores all of it at once
    reconciliation  a day again, over today's rows, compared row by row

Nothing here, or anywhere in FadeMoe, signs a request or holds a key of an exchange account. Contract: docs/trader.md.
"""
