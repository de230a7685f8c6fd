mode => {
  bianque.set('mode', mode);
  return [mode];
}
