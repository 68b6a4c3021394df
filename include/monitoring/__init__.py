"""How published scores compare with what came true, and when scores are late. Pure."""
