"""pytorchexample: the model, and its training, as in Flower's quickstart; the data are a file, as on a node of a deployment."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """A linear layer between two others."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(30, 8)
        self.fc2 = nn.Linear(8, 2)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(x)))


def load_local_data(data_path: str, batch_size: int):
    """The node's own rows."""
    data = np.load(data_path)
    x, y = torch.from_numpy(data["features"]), torch.from_numpy(data["malignant"])
    return DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True)


def train(net, trainloader, epochs, lr, device):
    """Trains the model on the training set; gives the loss of a batch on average."""
    net.to(device)
    criterion = nn.CrossEntropyLoss().to(device)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    running_loss = 0.0
    for _ in range(epochs):
        for images, labels in trainloader:
            optimizer.zero_grad()
            loss = criterion(net(images.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
    return running_loss / (epochs * len(trainloader))
