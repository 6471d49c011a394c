"""Why a user gets his slot tonight. Nothing is imported here: the child process that loads XGBoost stays small."""
