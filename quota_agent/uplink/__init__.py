"""The stream to the controller: dialled, kept alive, and dialled again."""
