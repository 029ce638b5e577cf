"""What a customer may use, and until when."""
