"""The image that every lab host starts from."""
