BaJxÉ√B•}≈BÏC∆BÊ#«BÍJ»BŸ°…B≤%«Bo∆Bv»B¡≈BM
…B•…≈B<–»B≤ÆÀBÙp«B#◊»B¿•ÀB˜6»BHC»B£ï»B^Ò∆Bì¶…B)Æ B"¶»B˜v«Bcô»BŸÁ≈B06…B—B«BœJ∆B