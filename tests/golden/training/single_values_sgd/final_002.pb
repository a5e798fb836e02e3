B
one.weightJρφB(dθ?