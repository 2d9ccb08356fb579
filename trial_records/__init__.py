"""What a trial leaves behind and how it is read: the ground floor, which all import
and which knows none of them."""
