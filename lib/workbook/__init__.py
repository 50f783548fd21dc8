"""What only the workbook needs: the command, the lessons' helpers, exercises, figures and trials.

Nothing else imports it: whoever copies lib into a product leaves this folder away.
"""

__all__ = []
