B	norm.biasJьw
IехЉ?≤£вzh„њЧKN@лЌњ