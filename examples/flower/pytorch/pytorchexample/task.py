"""pytorchexample: the model, and the server's public test set."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NODES_HAVE = 1400  # of the 1797 digits; data.limit says the same


class Net(nn.Module):
    """Two convolutions and three linear layers, for 8 x 8 pixels.

    tanh in place of ReLU: what one record can do to an activation stays bounded, and DP-SGD learns in fewer rounds.
    """

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * 2 * 2, 60)
        self.fc2 = nn.Linear(60, 42)
        self.fc3 = nn.Linear(42, 10)

    def forward(self, x):
        """Class scores, shape (images, 10), of pixels between -1 and 1."""
        x = x.view(-1, 1, 8, 8)  # a vault's rows are flat
        x = self.pool(torch.tanh(self.conv1(x)))
        x = self.pool(torch.tanh(self.conv2(x)))
        x = x.view(-1, 16 * 2 * 2)
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        return self.fc3(x)


def load_centralized_dataset():
    """The server's test set: digits that no node has."""
    digits = load_digits()
    images = torch.tensor(digits.images[NODES_HAVE:] / 8 - 1, dtype=torch.float32)
    return DataLoader(TensorDataset(images, torch.tensor(digits.target[NODES_HAVE:])), batch_size=128)


def test(net, testloader, device):
    """Loss of a batch on average, and accuracy."""
    net.to(device)
    criterion = nn.CrossEntropyLoss()
    correct, loss = 0, 0.0
    with torch.no_grad():
        for images, labels in testloader:
            outputs = net(images.to(device))
            loss += criterion(outputs, labels.to(device)).item()
            correct += (outputs.argmax(1) == labels.to(device)).sum().item()
    return loss / len(testloader), correct / len(testloader.dataset)
