(message, ...given) => {
  bianque.sending(message);
  return [message, ...given];
}
