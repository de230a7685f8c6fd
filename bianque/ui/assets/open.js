() => [bianque.turns()]
