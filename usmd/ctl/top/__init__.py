"""What `usmctl top` shows. `app`, `screens` and `process_list` import Textual, which takes a while to import."""
