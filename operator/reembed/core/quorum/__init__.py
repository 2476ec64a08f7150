"""The panel's rules: what is proposed, who may vote, what makes a certificate, and what needs one.

Pure like all of core: signatures are checked by a function that the caller brings (`reembed.signing` has the real one).
"""
