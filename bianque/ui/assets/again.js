(turns, ...given) => {
  bianque.sending('');
  return [bianque.turns(), ...given];
}
