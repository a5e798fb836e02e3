Boutput.biasJ(ö'TÔ
rÄ¿0¢Îƒ‘ÿ²?P"M:òq?w+÷“†e¹?×}ew‚¿