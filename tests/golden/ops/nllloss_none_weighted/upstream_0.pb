Bgrad_yJî
>Ô?)fJ?z‹o?áz¿2þ²¾Q5¿