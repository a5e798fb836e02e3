Bgrad_cJ(A
хаhgиї`јNAіюїЂ"s{Ѓю@\Јz­й[ЪїЂЩeOKЗА