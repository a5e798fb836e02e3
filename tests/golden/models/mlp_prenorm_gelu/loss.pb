BlossJ1]%ğ£
@