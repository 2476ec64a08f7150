"""Pure builders of the objects that Reembed makes: the same input gives the same manifest, byte for byte."""
