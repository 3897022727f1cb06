"""A server of its own behind the face: started, asked over loopback for tokens, watched, ended. None is known here."""
