(message, turns, ...given) => {
  if (message?.trim()) bianque.sending(message);
  return [message, bianque.turns(), ...given];
}
