(...given) => {
  bianque.sending('');
  return given;
}
