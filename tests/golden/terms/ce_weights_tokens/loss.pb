BlossJ
ÒN¡G%@