"""Alerts: rules over stored minutes, their states, and the delivery of what changed. See docs/alerts.md.

rules           rule files: read and checked
files           rule files on disk and in the package, and how one is applied
language        what rules say in the language of expressions
conditions      what is wrong with the data and the system itself
state_machine   the states of an alert, a pure function of one minute's results
minute          one closed minute: every rule for every contract
program         the program `alerts`
records         rules, states and transitions as they are stored
replay          what a rule would have done
outbox          what is to be sent, and every attempt
delivery        what is sent when: order, age, silences, retries
channels        one attempt to hand a message over
messages        the bytes of a message, and its signature
ids             identifiers that are made of what they name
"""
