"""The model of this app, for both sides: the server starts from it, every hospital trains it."""

# Bring your own: replace the line below by a function that builds it, such as
#
#     from torch import nn
#
#     def model() -> nn.Module:
#         return nn.Sequential(nn.Linear(30, 16), nn.Tanh(), nn.Linear(16, 2))
#
# Server and hospitals must build the same layers. None takes the configured model (``model.kind`` and its keys).
model = None
