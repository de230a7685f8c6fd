() => {
  bianque.clearing();
  return [];
}
