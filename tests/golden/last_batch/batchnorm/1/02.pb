Bnorm.weightJ0ױÊ$qÛkט?Wֻ±Q¢ג?‎gרן‰ף?םoƒ
וט?1¹nֱ<רנ?;kר
-eם?