"""What all pages share: who may, how things look, how requests are limited."""
