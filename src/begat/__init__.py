"""Training-data attribution for diffusion models, checked against retraining.

One convention for every score in this package::

    score[query, unit] = measurement of the query without the unit - measurement with it

A *query* is an image asked about; a *unit* is a training image or a group of them (class,
artist, contributor). The *measurement* is a loss, so a **positive score means the unit helped**:
without it, the model explains the query worse. What each method measures, estimates or merely
multiplies stands in its artifact's attribute ``measures`` (``evaluation.measures``), with whether
the sign (``signed``) and the size (``calibrated``) mean what they should: similarities, magnitudes
and centred scores only rank.
"""
