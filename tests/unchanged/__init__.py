# SPDX-License-Identifier: GPL-3.0-or-later
"""That a change of the code's form changes no number."""
