(message, turns, ...given) => {
  bianque.sending(message);
  return [message, bianque.turns(), ...given];
}
