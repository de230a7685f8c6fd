turns => [bianque.turns(), bianque.because]
