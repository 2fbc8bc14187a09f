"""How the platform would do at another size: a discrete-event model, fed by what was measured.

`model` says what there is and what each thing costs, `engine` plays it, `answers` reads from it what breaks first, how
many machines that takes and what they cost a month.
"""
